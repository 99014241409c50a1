"""Points -> answers: every face of anyone's photographs, whether two are the same person, and who it is."""
