"""The guided story: the claims of ``claims.seed`` told in order, in English and 中文."""
