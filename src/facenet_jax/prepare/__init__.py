"""Anyone's photographs -> a dataset on disk, and what two datasets share."""
