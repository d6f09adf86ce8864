"""From detections to a list that a team can act upon: association, cross-match, light curves, rank, the page."""
