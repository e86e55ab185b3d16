/* {{name}}: pulls one RTMP stream and never gives up.
 *
 * Everything that may differ is in here: when to dial, what a failure means, how long to
 * wait. The host does the RTMP; this policy sees facts and never a packet. The contract is
 * wit/deps/restreamd-plugin/world.wit, written to be read; bindings/plugin.h is made of it.
 *
 * What a function is given is its own to free; what it returns is freed by the bindings. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

typedef plugin_string_t text_t;
typedef exports_restreamd_plugin_restreamer_property_t property_t;
typedef exports_restreamd_plugin_restreamer_problem_t problem_t;
typedef restreamd_plugin_types_properties_t properties_t;
typedef restreamd_plugin_runtime_wake_t wake_t;

/* Media for so long means that the source is good again. */
#define GOOD_RUN_MS 10000
/* No second attempt follows sooner than this. */
#define FLOOR_MS 50
#define LONGEST_MS 3600000

static const struct {
  const char *name, *doc, *standard;
} PROPERTIES[] = {
    {"url", "The stream to pull: rtmp://host/app/name.", NULL},
    {"retryMinMs", "The first wait after a failure, at most.", "250"},
    {"retryMaxMs", "The longest wait.", "10000"},
};
#define KNOWN (sizeof PROPERTIES / sizeof PROPERTIES[0])

static bool is(text_t text, const char *word) {
  return text.len == strlen(word) && memcmp(text.ptr, word, text.len) == 0;
}

static const text_t *get(const properties_t *list, const char *name) {
  for (size_t i = 0; i < list->len; i++)
    if (is(list->ptr[i].f0, name)) return &list->ptr[i].f1;
  return NULL;
}

/* A whole number from 1 to LONGEST_MS; 0 for anything else. */
static uint32_t number(const properties_t *list, const char *name, uint32_t standard) {
  const text_t *text = get(list, name);
  if (text == NULL) return standard;
  uint32_t value = 0;
  for (size_t i = 0; i < text->len; i++) {
    if (text->ptr[i] < '0' || text->ptr[i] > '9') return 0;
    value = value * 10 + (text->ptr[i] - '0');
    if (value > LONGEST_MS) return 0;
  }
  return value;
}

void exports_restreamd_plugin_restreamer_describe(
    exports_restreamd_plugin_restreamer_description_t *ret) {
  property_t *list = calloc(KNOWN, sizeof *list);
  for (size_t i = 0; i < KNOWN; i++) {
    plugin_string_dup(&list[i].name, PROPERTIES[i].name);
    plugin_string_dup(&list[i].doc, PROPERTIES[i].doc);
    list[i].required = PROPERTIES[i].standard == NULL;
    list[i].default_.is_some = PROPERTIES[i].standard != NULL;
    if (list[i].default_.is_some) plugin_string_dup(&list[i].default_.val, PROPERTIES[i].standard);
  }
  plugin_string_dup(&ret->doc, "Pulls one RTMP stream and never gives up.");
  ret->direction = EXPORTS_RESTREAMD_PLUGIN_RESTREAMER_DIRECTION_FEEDS;
  ret->properties.ptr = list;
  ret->properties.len = KNOWN;
}

static void complain(exports_restreamd_plugin_restreamer_list_problem_t *problems, text_t key,
                     const char *message) {
  problems->ptr = realloc(problems->ptr, (problems->len + 1) * sizeof *problems->ptr);
  problem_t *problem = &problems->ptr[problems->len++];
  plugin_string_dup_n(&problem->key, (const char *)key.ptr, key.len);
  plugin_string_dup(&problem->message, message);
}

/* True when there is nothing to complain of. */
bool exports_restreamd_plugin_restreamer_check(
    properties_t *list, exports_restreamd_plugin_restreamer_list_problem_t *problems) {
  problems->ptr = NULL;
  problems->len = 0;
  for (size_t i = 0; i < list->len; i++) {
    bool known = is(list->ptr[i].f0, "persist");
    for (size_t k = 0; k < KNOWN; k++) known |= is(list->ptr[i].f0, PROPERTIES[k].name);
    if (!known) complain(problems, list->ptr[i].f0, "is not a property of this type");
  }
  text_t key;
  plugin_string_set(&key, "url");
  if (get(list, "url") == NULL) complain(problems, key, "is required");
  for (size_t k = 1; k < KNOWN; k++) {
    plugin_string_set(&key, PROPERTIES[k].name);
    if (number(list, PROPERTIES[k].name, 1) == 0)
      complain(problems, key, "must be a whole number from 1 to 3600000");
  }
  restreamd_plugin_types_properties_free(list);
  return problems->len == 0;
}

static struct {
  char *url;
  uint32_t retry_min, retry_max;
  bool open;
  restreamd_plugin_media_own_source_t source;
  uint8_t failures;
  uint64_t due;
} pull;

/* Takes the settings over. The host asked `check` before. */
static void configure(const properties_t *list) {
  const text_t *url = get(list, "url");
  free(pull.url);
  pull.url = url ? strndup((const char *)url->ptr, url->len) : strdup("");
  pull.retry_min = number(list, "retryMinMs", 250);
  pull.retry_max = number(list, "retryMaxMs", 10000);
}

/* Dropping the handle closes the connection at once. */
static void close_source(void) {
  if (pull.open) restreamd_plugin_media_source_drop_own(pull.source);
  pull.open = false;
}

static void failed(const char *why) {
  close_source();
  /* Full jitter: evenly up to a bound that doubles. */
  uint64_t top = (uint64_t)pull.retry_min << (pull.failures < 20 ? pull.failures : 20);
  if (top > pull.retry_max) top = pull.retry_max;
  uint64_t span = top > FLOOR_MS ? top - FLOOR_MS : 0;
  uint32_t pause = FLOOR_MS + (uint32_t)((span * restreamd_plugin_runtime_random_u32()) >> 32);
  if (pull.failures < UINT8_MAX) pull.failures++;
  pull.due = restreamd_plugin_runtime_now_ms() + pause;
  char line[80];
  snprintf(line, sizeof line, "%s, attempt %d", why, pull.failures);
  text_t text;
  plugin_string_set(&text, line);
  restreamd_plugin_runtime_set_status(RESTREAMD_PLUGIN_RUNTIME_PHASE_BACKING_OFF, &text, &pause);
}

static void dial(void) {
  restreamd_plugin_rtmp_connect_options_t options = {
      .stall_ms = {.is_some = true, .val = 2500},
      .tls = {.tag = RESTREAMD_PLUGIN_TYPES_TLS_CHECK_VERIFY},
  };
  restreamd_plugin_types_io_error_t error;
  text_t url;
  plugin_string_set(&url, pull.url);
  pull.open = restreamd_plugin_rtmp_connect(&url, &options, &pull.source, &error);
  if (!pull.open) {
    /* Nothing was dialed: a bad URL, or a limit of this restreamer. */
    restreamd_plugin_types_io_error_free(&error);
    failed("refused by the host");
    return;
  }
  /* A source that is gone meanwhile tells so by a wake of its own. */
  if (!restreamd_plugin_media_method_source_attach(
          restreamd_plugin_media_borrow_source(pull.source), &error))
    restreamd_plugin_types_io_error_free(&error);
}

static void look(void) {
  if (!pull.open) return;
  restreamd_plugin_types_facts_t facts;
  restreamd_plugin_media_method_source_facts(restreamd_plugin_media_borrow_source(pull.source),
                                             &facts);
  if (facts.flowing_ms >= GOOD_RUN_MS) pull.failures = 0;
  bool stalled = facts.stall.is_some;
  restreamd_plugin_types_facts_free(&facts);
  if (stalled) failed("stalled");
}

static void reconfigure(const properties_t *list) {
  char *before = strdup(pull.url);
  configure(list);
  if (strcmp(before, pull.url) != 0) {
    close_source();
    pull.due = restreamd_plugin_runtime_now_ms();
  }
  free(before);
}

static void hand_over(exports_restreamd_plugin_restreamer_handover_t *all) {
  memset(all, 0, sizeof *all);
  if (pull.open) {
    all->sources.ptr = malloc(sizeof *all->sources.ptr);
    all->sources.ptr[0] = pull.source;
    all->sources.len = 1;
    pull.open = false;
  }
  uint64_t now = restreamd_plugin_runtime_now_ms();
  uint32_t left = pull.due > now ? (uint32_t)(pull.due - now) : 0;
  all->state.len = 1 + sizeof left;
  all->state.ptr = malloc(all->state.len);
  all->state.ptr[0] = pull.failures;
  memcpy(all->state.ptr + 1, &left, sizeof left);
}

static void begin(exports_restreamd_plugin_restreamer_job_t *job,
                  exports_restreamd_plugin_restreamer_handover_t *former) {
  configure(&job->properties);
  exports_restreamd_plugin_restreamer_job_free(job);
  pull.due = restreamd_plugin_runtime_now_ms();
  if (former == NULL) return;
  /* What the build before left: its source, still flowing, how often it had failed, and the
     rest of its wait, so that a new build on a thousand streams dials nobody early. */
  pull.open = former->sources.len > 0;
  if (pull.open) pull.source = former->sources.ptr[0];
  uint32_t left;
  if (former->state.len != 1 + sizeof left) return;
  pull.failures = former->state.ptr[0];
  memcpy(&left, former->state.ptr + 1, sizeof left);
  pull.due += left;
}

void exports_restreamd_plugin_restreamer_run(
    exports_restreamd_plugin_restreamer_job_t *job,
    exports_restreamd_plugin_restreamer_handover_t *former,
    exports_restreamd_plugin_restreamer_outcome_t *ret) {
  begin(job, former);
  for (;;) {
    uint64_t now = restreamd_plugin_runtime_now_ms();
    if (!pull.open && now >= pull.due) dial();
    uint32_t pause = pull.due > now ? (uint32_t)(pull.due - now) : 0;
    wake_t wake;
    restreamd_plugin_runtime_wait(pull.open ? NULL : &pause, &wake);
    switch (wake.tag) {
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_STOP:
        ret->tag = EXPORTS_RESTREAMD_PLUGIN_RESTREAMER_OUTCOME_STOPPED;
        return;
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_UPGRADE:
        ret->tag = EXPORTS_RESTREAMD_PLUGIN_RESTREAMER_OUTCOME_HANDED_OVER;
        hand_over(&ret->val.handed_over);
        return;
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_SOURCE_ENDED:
        failed("the source ended");
        break;
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_FACTS:
        look();
        break;
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_REACHABLE:
        pull.due = restreamd_plugin_runtime_now_ms();
        break;
      case RESTREAMD_PLUGIN_RUNTIME_WAKE_RECONFIGURED:
        reconfigure(&wake.val.reconfigured);
        break;
    }
    restreamd_plugin_runtime_wake_free(&wake);
  }
}
