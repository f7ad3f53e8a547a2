"""All stages that work on data, in an order in which they can run."""

from stages import (
    analysis,
    distill,
    evaluate,
    guidance_search,
    plan,
    prepare,
    reference,
    report,
    text,
    train,
    train_negative,
)

COMPUTED = (prepare, text, reference, train, train_negative, guidance_search, distill, evaluate)
STAGES = (*COMPUTED, plan, analysis, report)
