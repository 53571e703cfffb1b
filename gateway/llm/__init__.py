"""The gateway's own model, mounted as the server `llm`: its tools, its road, and what is asked of it.

    offer.py      the tools as any server lists them, and what the gateway knows of them
    asking.py     arguments to a request of the engine: tokens counted, bounds checked, domain and label named
    road.py       the only way to the model: executes an intent as a generation
    model.py      the engine's host: loading, state, its decisions into the log
    kept.py       suspended generations and checkpoints, sealed for their owners
    corridor.py   what the `/v1` edge may ask
    sampling.py   what an upstream server may ask
    extracts.py   typed questions to hostile text
    desk.py       what operators see and do, and the model's words on calls that wait
    usage.py      who used how much, from the log
    mount.py      all of it put together

What a model says is data with a label. Nothing here decides anything.
"""
