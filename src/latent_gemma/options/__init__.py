"""What each verb can be told, and how that is read; nothing in here loads torch."""
