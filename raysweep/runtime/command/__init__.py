"""A trial that is a shell command: what surrounds the user's script on its node.

`trial` is the training function that runs one; `shell` and `quoting` put values into its text;
`children` are its processes, `containers` where an image is asked for; `inputs`, `environment` and
`cache` are what a node prepares; `checkpoint_folder` is what a script saves.
"""
