"""Chat templates of the families that are met, each written for these tests and reduced to its traits."""

ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"

CHATML = "{% for m in messages %}" + TURN + "{% endfor %}" + ASK
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou answer \"letters\".<|im_end|>\n' }}{% endif %}"
    + CHATML
)
LLAMA3 = (
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + strftime_now('%d %b %Y') + '\n\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{{ '<|eot_id|>' }}"
    "{% for m in rest %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}" + ALTERNATE + "{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'].strip() + eos_token }}"
    "{% endif %}{% endfor %}"
)
SYSTEM_IN_FIRST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '[INST] <<SYS>>\n' + m['content'] }}"
    "{{ '\n<</SYS>>\n\n' }}{% elif m['role'] == 'user' %}"
    "{% if loop.index0 != 1 or messages[0]['role'] != 'system' %}{{ '[INST] ' }}{% endif %}"
    "{{ m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SYSTEM_IN_LAST = (
    "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + (s if loop.last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}" + NO_SYSTEM + "{% for m in messages %}" + ALTERNATE + "{% set role = 'model' "
    "if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI = (
    "{% for m in messages %}{% if m['role'] != 'tool' %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
TOOL_RESULTS = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{% if messages[loop.index0 - 1]['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<result>\n' + m['content'] + '\n</result>' }}"
    "{% if loop.last or messages[loop.index0 + 1]['role'] != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}" + ASK
)
BRACES = (
    "{% for m in messages %}{{ '{{' + m['role'] + '}} \"\"\"\u00a0' + m['content'] + '{' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{{assistant}}\t' }}{% endif %}"
)
KEEPS_LINES = CHATML.replace("m['content']", "m['content'].strip('\n')")
LEFT = CHATML.replace("m['content']", "m['content'].lstrip()")
RIGHT = CHATML.replace("m['content']", "m['content'].rstrip()")

FAMILIES = {
    "chatml": CHATML,
    "own system": OWN_SYSTEM,
    "llama 3": LLAMA3,
    "mistral": MISTRAL,
    "system in the first question": SYSTEM_IN_FIRST,
    "gemma": GEMMA,
    "phi": PHI,
    "tool results": TOOL_RESULTS,
    "braces": BRACES,
    "keeps lines": KEEPS_LINES,
    "left": LEFT,
    "right": RIGHT,
}
