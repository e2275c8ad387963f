"""Charts, pictures and pages, made from the folders of runs."""
