"""How the agent is, for whoever asks on its host: a small file that the daemon keeps true.

* `report`   what the file says: values, and their form in JSON
* `place`    where the file is, how it is written and found
* `board`    the daemon's side: what happens is noted, and the file follows
* `process`  whether the daemon that wrote it still lives
* `verdict`  the reader's side: what the report means now, what is wrong, what to do
* `text`     the verdict for a human

The file holds no secret and may be read by everybody who gets to its folder.
"""
