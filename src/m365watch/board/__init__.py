"""The analyst's board: a page is panels, a panel a loader and a template."""
