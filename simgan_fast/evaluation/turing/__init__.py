"""The visual Turing test of the SimGAN paper (section 3.1.2, table 1): can people tell refined images from real ones?

`scores`: accuracy, its interval and p. `study`: who was shown what and said what, in SQLite. `results`: the scores of a
study. `app`, `server`: the web page; they need Flask and waitress, the rest does not.
"""
