// What a process tells the others.

// How many samples the numbers behind it are of.
extern "C" __global__ void samples(T* row, int n) { row[0] = (T)n; }
