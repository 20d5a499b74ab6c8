"""The paper's studies, each a command: many trainings, a table that says what came of them."""
