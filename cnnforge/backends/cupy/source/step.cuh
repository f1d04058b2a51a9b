// The fields of the step block, in the order of ``cnnforge.ir.graph.STEP_FIELDS``.
enum { STEP, DRAW, FIRST, LR, INV_N, C1, C2, KEEP };
