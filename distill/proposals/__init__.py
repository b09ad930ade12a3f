"""Region proposals: sharing them between student and teacher."""

from distill.proposals.sharing import SharedProposals, share_proposals

__all__ = ["SharedProposals", "share_proposals"]
