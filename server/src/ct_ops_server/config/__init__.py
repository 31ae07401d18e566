"""The server's configuration: one table of variables, read from the environment and one file.

* ``variables``  the table: every variable with its default, form and meaning
* ``schema``     the result, typed and frozen
* ``problems``   what is wrong, all of it at once, by name, with what to do
* ``env_file``   the form of ``/etc/ct-ops/server.env``
* ``sources``    who says what: environment, file, ``*_FILE``; unknown names
* ``addresses``, ``duration``, ``values``  parsers, pure
* ``key_files``  whether the named certificates and keys can be used
* ``load``       all of it together; also what ``config show`` and ``config check`` print
* ``document``   prints the table for ``docs/server-configuration.md``

Nothing here writes, connects or logs. Imports no other part of the server.
"""
