"""The board for programs: panels, alerts and figures as JSON, with a document that describes all of it."""
