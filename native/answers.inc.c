// Part of addon.c: encoded answers by the bytes of the query behind its id, for poller.inc.c.
//
// Whoever asks in the very same bytes, in the same place, gets the same answer, with his own id. What may be answered so,
// and when it is no longer true, is for dns-resolver/ to say: it keeps and clears.

enum {
  // Longer queries are of no usual client.
  KEY_BYTES = 320,
  ID_BYTES = 2,
  // Of one table: who asks for a million names throws his own answers out, and those of his like.
  TABLE_ANSWERS = 4096,
  TABLE_BYTES = 2 << 20,
  // Of all tables; beyond it the largest is emptied.
  STORE_BYTES = 32 << 20,
  VARIANTS = 8,
};

// One allocation, with what follows: offsets of TTLs, lengths of the variants, key, variants.
struct answer {
  struct answer *next;
  uint64_t hash;
  int64_t until_ns;
  int64_t born_ns;
  uint32_t aged_seconds;
  uint32_t bytes;
  uint16_t key_length;
  uint16_t ttls;
  uint8_t variants;
  // The one to send next.
  uint8_t turn;
  uint16_t numbers[];
};

struct answer_store;

struct answers {
  // JavaScript's, and one for each socket.
  size_t references;
  struct answer_store *store;
  struct answers *previous, *next;
  struct answer **buckets;
  size_t bucket_count, count, bytes;
};

struct answer_store {
  uint64_t seed[2];
  size_t bytes;
  struct answers *first;
};

static int64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t rotate_left(uint64_t value, int bits) {
  return value << bits | value >> (64 - bits);
}

static void sip_round(uint64_t v[4]) {
  v[0] += v[1], v[1] = rotate_left(v[1], 13) ^ v[0], v[0] = rotate_left(v[0], 32);
  v[2] += v[3], v[3] = rotate_left(v[3], 16) ^ v[2];
  v[0] += v[3], v[3] = rotate_left(v[3], 21) ^ v[0];
  v[2] += v[1], v[1] = rotate_left(v[1], 17) ^ v[2], v[2] = rotate_left(v[2], 32);
}

// SipHash-1-3 with a key that nobody knows: containers choose what is hashed, and could else choose one bucket for all.
static uint64_t answer_hash(const struct answer_store *store, const uint8_t *key, size_t length) {
  uint64_t v[4] = {store->seed[0] ^ 0x736f6d6570736575, store->seed[1] ^ 0x646f72616e646f6d,
                   store->seed[0] ^ 0x6c7967656e657261, store->seed[1] ^ 0x7465646279746573};
  size_t at = 0;
  uint64_t word;
  for (; at + 8 <= length; at += 8) {
    memcpy(&word, key + at, 8);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  word = (uint64_t)length << 56;
  for (int shift = 0; at < length; at++, shift += 8) word |= (uint64_t)key[at] << shift;
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const uint8_t *answer_key(const struct answer *answer) {
  return (const uint8_t *)(answer->numbers + answer->ttls + answer->variants);
}

static bool answer_store_open(struct answer_store *store) {
  return getrandom(store->seed, sizeof store->seed, 0) == sizeof store->seed;
}

static void answers_clear(struct answers *answers) {
  for (size_t i = 0; i < answers->bucket_count; i++)
    for (struct answer *each = answers->buckets[i], *next; each; each = next) {
      next = each->next;
      free(each);
    }
  free(answers->buckets);
  if (answers->store) answers->store->bytes -= answers->bytes;
  answers->buckets = NULL;
  answers->bucket_count = answers->count = answers->bytes = 0;
}

static struct answers *answers_open(struct answer_store *store) {
  struct answers *answers = calloc(1, sizeof *answers);
  if (!answers) return NULL;
  answers->references = 1;
  answers->store = store;
  answers->next = store->first;
  if (store->first) store->first->previous = answers;
  store->first = answers;
  return answers;
}

static void answers_release(struct answers *answers) {
  if (--answers->references > 0) return;
  answers_clear(answers);
  if (answers->previous) answers->previous->next = answers->next;
  else if (answers->store) answers->store->first = answers->next;
  if (answers->next) answers->next->previous = answers->previous;
  free(answers);
}

static void answers_finalize(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  answers_release(data);
}

// Tables that JavaScript still has outlive it.
static void answer_store_close(struct answer_store *store) {
  for (struct answers *each = store->first, *next; each; each = next) {
    next = each->next;
    answers_clear(each);
    each->store = NULL;
    each->previous = each->next = NULL;
  }
  store->first = NULL;
}

static bool answers_grow(struct answers *answers) {
  if (answers->count < answers->bucket_count) return true;
  size_t count = answers->bucket_count ? answers->bucket_count * 2 : 16;
  struct answer **buckets = calloc(count, sizeof *buckets);
  if (!buckets) return false;
  for (size_t i = 0; i < answers->bucket_count; i++)
    for (struct answer *each = answers->buckets[i], *next; each; each = next) {
      next = each->next;
      each->next = buckets[each->hash & (count - 1)];
      buckets[each->hash & (count - 1)] = each;
    }
  free(answers->buckets);
  answers->buckets = buckets;
  answers->bucket_count = count;
  return true;
}

static void answers_drop(struct answers *answers, struct answer **link) {
  struct answer *answer = *link;
  *link = answer->next;
  answers->count--;
  answers->bytes -= answer->bytes;
  answers->store->bytes -= answer->bytes;
  free(answer);
}

static struct answer **answers_look(struct answers *answers, const uint8_t *key, size_t length, uint64_t hash) {
  struct answer **link = &answers->buckets[hash & (answers->bucket_count - 1)];
  for (; *link; link = &(*link)->next)
    if ((*link)->hash == hash && (*link)->key_length == length && memcmp(answer_key(*link), key, length) == 0) break;
  return link;
}

// Makes room for one more: of this table, and of all.
static void answers_make_room(struct answers *answers, size_t bytes) {
  if (answers->count >= TABLE_ANSWERS || answers->bytes + bytes > TABLE_BYTES) answers_clear(answers);
  struct answer_store *store = answers->store;
  while (store->bytes > 0 && store->bytes + bytes > STORE_BYTES) {
    struct answers *largest = store->first;
    for (struct answers *each = store->first; each; each = each->next)
      if (each->bytes > largest->bytes) largest = each;
    answers_clear(largest);
  }
}

static int64_t ns_of_ms(double ms) {
  return ms < 1e12 ? (int64_t)(ms * 1e6) : INT64_MAX / 4;
}

// Replaces an earlier one; false for what is none. `age`: for how many milliseconds TTLs have run that the messages don't
// show yet.
static bool answers_keep(struct answers *answers, const uint8_t *key, size_t key_length, double holds, double age,
                         const uint8_t *messages, size_t messages_length, const int32_t *lengths, size_t variants,
                         const int32_t *ttl_offsets, size_t ttls) {
  if (!answers->store) return true;
  if (key_length > KEY_BYTES || variants < 1 || variants > VARIANTS || ttls > UINT16_MAX || !(holds >= 0) || !(age >= 0))
    return false;
  size_t total = 0;
  for (size_t i = 0; i < variants; i++) {
    if (lengths[i] < 12 || lengths[i] > UINT16_MAX) return false;
    total += (size_t)lengths[i];
    for (size_t j = 0; j < ttls; j++)
      if (ttl_offsets[j] < 12 || ttl_offsets[j] > lengths[i] - 4) return false;
  }
  if (total != messages_length) return false;
  size_t bytes = sizeof(struct answer) + 2 * (ttls + variants) + key_length + total;
  answers_make_room(answers, bytes);
  struct answer *answer = malloc(bytes);
  // Without memory nothing is kept, and the next who asks is answered all the same.
  if (!answer) return true;
  if (!answers_grow(answers)) {
    free(answer);
    return true;
  }
  int64_t now = monotonic_ns();
  *answer = (struct answer){.hash = answer_hash(answers->store, key, key_length),
                            .until_ns = now + ns_of_ms(holds),
                            .born_ns = now - ns_of_ms(age),
                            .bytes = (uint32_t)bytes,
                            .key_length = (uint16_t)key_length,
                            .ttls = (uint16_t)ttls,
                            .variants = (uint8_t)variants};
  uint16_t *numbers = answer->numbers;
  for (size_t i = 0; i < ttls; i++) *numbers++ = (uint16_t)ttl_offsets[i];
  for (size_t i = 0; i < variants; i++) *numbers++ = (uint16_t)lengths[i];
  memcpy(numbers, key, key_length);
  memcpy((uint8_t *)numbers + key_length, messages, total);
  struct answer **link = answers_look(answers, key, key_length, answer->hash);
  if (*link) answers_drop(answers, link);
  answer->next = *link;
  *link = answer;
  answers->count++;
  answers->bytes += bytes;
  answers->store->bytes += bytes;
  return true;
}

// Counts all TTLs down, to 0 at least; the highest bit set means 0 (RFC 2181 section 8).
static void answer_age(struct answer *answer, uint8_t *message, uint32_t seconds) {
  const uint16_t *lengths = answer->numbers + answer->ttls;
  for (unsigned i = 0; i < answer->variants; message += lengths[i++])
    for (unsigned j = 0; j < answer->ttls; j++) {
      uint8_t *at = message + answer->numbers[j];
      uint32_t ttl = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
      ttl = ttl > INT32_MAX || ttl < seconds ? 0 : ttl - seconds;
      at[0] = (uint8_t)(ttl >> 24), at[1] = (uint8_t)(ttl >> 16), at[2] = (uint8_t)(ttl >> 8), at[3] = (uint8_t)ttl;
    }
}

// Writes the answer over the query, all but its id. 0 where there is none that still holds.
static size_t answers_find(struct answers *answers, uint8_t *message, size_t length, size_t room, int64_t now) {
  if (answers->count == 0 || length <= ID_BYTES || length - ID_BYTES > KEY_BYTES) return 0;
  const uint8_t *key = message + ID_BYTES;
  size_t key_length = length - ID_BYTES;
  struct answer **link = answers_look(answers, key, key_length, answer_hash(answers->store, key, key_length));
  struct answer *answer = *link;
  if (!answer) return 0;
  if (answer->until_ns <= now) {
    answers_drop(answers, link);
    return 0;
  }
  const uint16_t *lengths = answer->numbers + answer->ttls;
  uint8_t *variant = (uint8_t *)(lengths + answer->variants) + answer->key_length;
  if (answer->ttls > 0 && now > answer->born_ns) {
    uint32_t age = (uint32_t)((now - answer->born_ns) / 1000000000);
    if (age > answer->aged_seconds) {
      answer_age(answer, variant, age - answer->aged_seconds);
      answer->aged_seconds = age;
    }
  }
  unsigned turn = answer->turn;
  if (lengths[turn] > room) return 0;
  for (unsigned i = 0; i < turn; i++) variant += lengths[i];
  answer->turn = turn + 1 < answer->variants ? (uint8_t)(turn + 1) : 0;
  memcpy(message + ID_BYTES, variant + ID_BYTES, lengths[turn] - ID_BYTES);
  return lengths[turn];
}
