"""Points -> answers: every face on photographs, whether two are the same person, and who it is."""
