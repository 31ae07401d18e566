"""Gathering: every collector on its own tick, each apart from all the others.

* ``readings``      what a collector yielded, made into samples; what is odd is refused with a sentence
* ``health``        how a collector has been doing, and how long it is left alone when it keeps failing
* ``thread_watch``  which threads a collector has started
* ``course``        one collector's life: tick, thread, deadline, samples
* ``gatherer``      all of them together, and what is known of them
"""
