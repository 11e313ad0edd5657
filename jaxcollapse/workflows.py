"""Workflows: how kept data become the next training set."""

from jaxcollapse.base import Memory, Workflow


def replace(memory: Memory) -> Workflow:
    """Train on this generation's kept data only [shumailov2024]_."""

    def update(key, state, batch, fresh, controls):
        return state, memory.training(memory.add(memory.init(batch), batch))

    return Workflow(init=lambda batch: (), update=update)


def accumulate(memory: Memory) -> Workflow:
    """Train on everything kept so far [gerstgrasser2024]_."""

    def update(key, state, batch, fresh, controls):
        state = memory.add(state, batch)
        return state, memory.training(state)

    return Workflow(memory.init, update)


def accumulate_subsample(memory: Memory) -> Workflow:
    """Accumulate, then train on `controls.num_kept` points drawn uniformly without replacement [kazdan2025]_.

    Raises:
        ValueError: if the memory keeps no points.
    """
    subsample = memory.subsample
    if subsample is None:
        raise ValueError("accumulate_subsample needs a memory that keeps points: use buffer_memory")

    def update(key, state, batch, fresh, controls):
        state = memory.add(state, batch)
        return state, subsample(key, state, controls.num_kept)

    return Workflow(memory.init, update)


def fresh_mix(memory: Memory) -> Workflow:
    """Train on this generation's kept data together with new real data [alemohammad2024]_.

    The real data come from the `fresh_fn` of `build_collapse`; with n kept and r real samples the
    synthetic share is n / (n + r).
    """

    def update(key, state, batch, fresh, controls):
        if fresh is None:
            raise ValueError("fresh_mix needs fresh real data: give build_collapse a fresh_fn")
        mixed = memory.add(memory.add(memory.init(batch), batch), fresh)
        return state, memory.training(mixed)

    return Workflow(init=lambda batch: (), update=update)


WORKFLOWS = {
    "replace": replace,
    "accumulate": accumulate,
    "accumulate_subsample": accumulate_subsample,
    "fresh_mix": fresh_mix,
}
