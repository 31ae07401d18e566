"""Releases: which artefacts this server hands out, and how it knows that they are what they say.

* ``artefact``    names, versions and forms of artefacts; which of them answers a request
* ``executable``  what the first bytes of a program say it runs on
* ``manifest``    the signed description of one artefact
* ``release_key`` the key that manifests are signed with, which need not be on this server
* ``shelf``       the folder they are in

And what installs them, made from the templates in ``bundles/``:

* ``shell_quoting``   any text as one word of a shell
* ``templates``       the templates, and how their places are filled
* ``install_script``  the script of the one-line install, and the line
* ``bundle``          the files of an install bundle
* ``packing``         archives that are the same bytes for the same files

Local files only: nothing here ever asks the internet for a version or a file.
"""
