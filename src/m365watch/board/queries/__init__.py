"""The SQL of the panels: over `facts`, values bound, a module for each subject."""
