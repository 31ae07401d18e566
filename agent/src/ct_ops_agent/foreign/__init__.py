"""Samples from what is no collector of ours: programs of any language, and files that others write.

* ``prometheus_text``  the text format of Prometheus, read
* ``json_lines``       one JSON object a line, read
* ``exec_program``     ``[[collectors.exec]]``: a program that prints either
* ``textfile``         ``[collectors.textfile]``: a folder of ``*.prom`` files
"""
