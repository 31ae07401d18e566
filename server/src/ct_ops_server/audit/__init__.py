"""The audit log: what was decided here, by whom, in a chain that shows what was changed in it.

* ``decisions``      what can be decided, and a decision as its maker states it
* ``entries``        a decision as a link of the chain: its canonical form and its hash
* ``verification``   whether links make a chain, and where they do not
* ``heads``          how far a chain reached at one time, signed
* ``keys``           which keys sign, as the chain says
* ``vouching``       how far signed heads vouch for files
* ``files``          chains in files outside the database

Nothing here knows a database: ``store.audit`` keeps the chain, inside the transaction of what is decided.
"""
