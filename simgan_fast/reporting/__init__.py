"""What a report of a run is made of: `run_facts` gathers, `measures` and `page` write HTML."""
