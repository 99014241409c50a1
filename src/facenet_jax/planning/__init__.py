"""What a run would take on machines that are not there, read from the compiled step."""
