"""What becomes of a result: files and engines for runtimes, measurements of them, pages and figures for people."""
