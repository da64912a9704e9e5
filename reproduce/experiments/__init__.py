"""A room for each experiment: settings, runs, results, figures, claims."""
