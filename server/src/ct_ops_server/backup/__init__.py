"""Backups of a whole installation: one encrypted file, and the way back from it.

errors        what can be wrong with a backup, or with the place it is restored to
envelope      the encrypted form: who has no passphrase learns nothing and changes nothing
contents      what is inside: a description, files, and the digest of each
belongings    which files of an installation a backup holds, and where each goes back to
making        an installation, also of a running server, into a file
unpacking     a file into an empty folder, and whether it is whole
returning     an unpacked backup into the place of an installation
"""
