"""In what proxy modes differ: each topic once, with what every mode does and what to do about it.

``tests/claims`` holds them against the Differences of the claims, mode by mode.
"""

from __future__ import annotations

from collections.abc import Mapping

from hairpin.claims.topics import Topic
from hairpin.claims.topics_addresses import ADDRESSES
from hairpin.claims.topics_connections import CONNECTIONS
from hairpin.claims.topics_firewall import FIREWALL
from hairpin.claims.topics_policies import POLICIES

TOPICS: tuple[Topic, ...] = (*ADDRESSES, *FIREWALL, *POLICIES, *CONNECTIONS)
"""Each is the topic of a Difference of some claim, and each such topic is here."""

BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in TOPICS}
