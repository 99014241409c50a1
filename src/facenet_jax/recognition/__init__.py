"""Recognition: finds every face in photographs, compares two people, and names enrolled people."""
