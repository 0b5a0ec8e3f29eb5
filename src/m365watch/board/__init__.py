"""The analyst's pages, and the same as JSON: a page is panels, a panel a loader and a template."""
