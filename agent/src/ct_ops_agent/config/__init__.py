"""The agent's configuration, from a file, the environment and the command line.

* `schema`    the keys as one table, and the frozen value that the agent runs on
* `parse`     how each kind of value is read, with a sentence for what cannot be read
* `load`      the sources in their order: flag, environment, file, default
* `problems`  everything that is wrong, at once, each by its key
* `document`  the table as operators read it in docs/agent.md
"""
