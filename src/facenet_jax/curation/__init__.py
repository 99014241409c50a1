"""Collections of photographs put in order: wrong labels found, people sorted, datasets compared."""
