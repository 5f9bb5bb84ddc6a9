"""Config section `data`."""
