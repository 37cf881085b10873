"""The sections of a report, one module each: numbers from the other rooms, as frozen records."""
