"""The subcommands of `facenet-jax`: each module adds its parser and runs it."""
