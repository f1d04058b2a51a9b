"""A page each: ``parts(lesson)`` gives its headings, paragraphs, tables and pictures, computed."""
