"""The verbs of the command that work on a user's files. A new one is a module here: a `Request` and its `answer`."""
