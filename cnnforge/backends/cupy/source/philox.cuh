// Philox4x32-10 as cnnforge/rng.py writes it down: to the bit.

// c: (element / 4, sample, step's low word, its high word) becomes four words.
__device__ inline void philox(u32* c, u32 k0, u32 k1) {
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        const u32 c1 = c[1], c3 = c[3];
        c[0] = (u32)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (u32)p1;
        c[2] = (u32)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
