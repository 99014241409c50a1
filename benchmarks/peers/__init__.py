"""What others built, run in an environment of its own next to ours."""
