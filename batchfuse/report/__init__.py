"""What people look at during a run and afterwards: progress, report and quicklooks."""
