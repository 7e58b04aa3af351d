"""Models side by side: plans, results files, statistics and reports."""
