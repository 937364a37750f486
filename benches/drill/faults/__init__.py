"""All faults, in the order of the table."""

from drill.faults import accounts, calls, network, process, store, tokens

FAULTS = [
    *process.CALM,
    *tokens.FAULTS,
    *calls.FAULTS,
    *network.FAULTS,
    *accounts.FAULTS,
    *store.FAULTS,
    *process.FAULTS,
]
