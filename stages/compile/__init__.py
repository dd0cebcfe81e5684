"""From trained networks to deployed models, one folder per variant."""
