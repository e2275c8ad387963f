"""Report: the page that shows a finished run."""
