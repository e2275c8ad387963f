"""A small landmark problem that needs no download: regions of photographs inside packages, each seen in many views."""
