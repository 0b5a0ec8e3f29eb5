"""One module a page; `registry.PAGES` lists them in the order of the navigation."""
