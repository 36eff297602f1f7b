"""A report in forms for people: text for a terminal, Markdown, plots and a web page, each a function of the report."""
