"""Many small trainings, killed again and again: `make campaign`, docs/campaign.md."""
