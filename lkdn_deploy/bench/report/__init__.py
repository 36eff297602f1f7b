"""A report as people read it: in a terminal, in Markdown, in plots, as a page. All of it functions of the report."""
