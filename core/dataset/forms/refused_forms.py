"""The forms of rows that are known by name and are no conversations to learn from: the first part of the table.

Each has a sentence that says what it is and what can be done.
"""

from __future__ import annotations

from core.dataset.forms.form import (
    ANSWERS,
    ASKED,
    BESIDE,
    CHOSEN,
    LABELS,
    PAIR,
    QUESTIONS,
    REJECTED,
    Form,
    is_any,
    is_flag,
    is_list,
    is_messages,
    is_moss,
    is_node,
    is_object,
    is_prose,
    is_question,
    is_several,
    is_style,
    is_text,
)

_CHOSEN_WORDS = "Train on the chosen answers"

REFUSED = (
    Form(
        "tokenised",
        "Tokenised text",
        "`input_ids`",
        "The rows are numbers of tokens for one certain model. Choose the data from which they were made.",
        {"input_ids": is_any},
    ),
    Form(
        "image",
        "Images and text",
        "`images`, `image`, `pixel_values`",
        "Only text is trained on here. Choose data without images, or say which columns of text to train on.",
        {"images image pixel_values image_path image_url": is_any},
        share=0,
    ),
    Form(
        "audio",
        "Audio and text",
        "`audio`, `audios`",
        "Only text is trained on here. Choose data without audio, or say which columns of text to train on.",
        {"audio audios audio_path": is_any},
        share=0,
    ),
    Form(
        "video",
        "Video and text",
        "`video`, `videos`",
        "Only text is trained on here. Choose data without video, or say which columns of text to train on.",
        {"video videos video_path": is_any},
        share=0,
    ),
    Form(
        "preference",
        "Preference data in messages (DPO)",
        "`messages` or `conversations`, `chosen`, `rejected`",
        "Each conversation has a better and a worse answer, and only answers to imitate are learned here. "
        "You can train on the chosen ones.",
        {"messages conversations": is_messages, CHOSEN: is_any, REJECTED: is_any},
        offer={**BESIDE, "chat": "messages conversations", "assistant": CHOSEN},
        offer_words=_CHOSEN_WORDS,
    ),
    Form(
        "preference",
        "Preference data (DPO)",
        "a question, `chosen`, `rejected` (OpenAI: `input`, `preferred_output`, `non_preferred_output`)",
        "Each question has a better and a worse answer, and only answers to imitate are learned here. "
        "You can train on the chosen ones.",
        {f"instruction {QUESTIONS}": is_any, CHOSEN: is_any, REJECTED: is_any},
        offer={**ASKED, "assistant": CHOSEN},
        offer_words=_CHOSEN_WORDS,
    ),
    Form(
        "preference",
        "Preference data of whole conversations (DPO)",
        "`chosen`, `rejected`: messages, or texts `Human: … Assistant: …`",
        "Each row has a better and a worse conversation, and only answers to imitate are learned here. "
        "You can train on the chosen ones.",
        {CHOSEN: is_style("transcript", "role/content", "from/value"), REJECTED: is_any},
        offer={**BESIDE, "chat": CHOSEN},
        offer_words=_CHOSEN_WORDS,
    ),
    Form(
        "preference",
        "Preference data without questions (DPO)",
        "`chosen`, `rejected`: texts",
        "Each row has a better and a worse text, and none says where the question ends. "
        "Write the better ones as messages.",
        {CHOSEN: is_any, REJECTED: is_any},
    ),
    Form(
        "rivals",
        "Two answers to choose from",
        "`conversation_a`, `conversation_b` or `response_0`, `response_1`",
        "Each row has two answers, of which one is better in a way that this file says elsewhere. "
        "Keep the better one in a column of its own.",
        {
            "conversation_a response_a answer_a answer_0 output_1 response_0 response_j": is_any,
            "conversation_b response_b answer_b answer_1 output_2 response_1 response_k": is_any,
        },
    ),
    Form(
        "stepwise",
        "Answers judged step by step",
        "`prompt`, `completions`, `labels`",
        "Each step of an answer has a judgement, and only answers to imitate are learned here. "
        "Write the right steps as one answer.",
        {"prompt question": is_any, "completions steps": is_list, "labels": is_list},
    ),
    Form(
        "ranked",
        "Several answers to a question",
        "a question, `answers`, `completions`, `responses` or `generations`: lists",
        "Each question has several answers, better and worse ones. Keep the best one in a column of its own.",
        {
            f"instruction {QUESTIONS}": is_any,
            "answers completions responses generations answer response output": is_several,
        },
    ),
    Form(
        "extracts",
        "Extracts with their places (SQuAD)",
        "`question`, `context`, `answers`: an object",
        "The answers are places in a text. Keep the text of one answer in a column of its own.",
        {"question": is_text, "answers": is_object},
    ),
    Form(
        "reward",
        "Answers with a reward",
        "a question, `reward`, `rewards` or `reward_model`",
        "Each answer, or a way to judge one, has a reward, and only answers to imitate are learned here. "
        "Keep the good answers, and say which column is what.",
        {f"instruction {QUESTIONS}": is_any, "reward rewards reward_model": is_any},
    ),
    Form(
        "label",
        "Conversations labelled good or bad (KTO)",
        "`messages` or `conversations`, `label` or `kto_tag`: true or false",
        "Bad answers are among them, and only answers to imitate are learned here. You can train on the good ones.",
        {"messages conversations": is_messages, LABELS: is_flag},
        offer={**BESIDE, "chat": "messages conversations", "label": LABELS},
        offer_words="Train on the good answers",
    ),
    Form(
        "label",
        "Answers labelled good or bad (KTO)",
        "a question, an answer, `label` or `kto_tag`: true or false",
        "Bad answers are among them, and only answers to imitate are learned here. You can train on the good ones.",
        {f"instruction {QUESTIONS}": is_question, ANSWERS: is_question, LABELS: is_flag},
        offer={**PAIR, "label": LABELS},
        offer_words="Train on the good answers",
    ),
    Form(
        "tree",
        "A tree of replies (OASST)",
        "`text` and `role` or `prompt`, with `replies`, `parent_id` or `message_tree_id`",
        "Several replies stand beside each other: they are no conversation. "
        "Choose data in which each row is one path through the tree.",
        {"replies parent_id message_tree_id": is_any, "role prompt": is_node},
    ),
    Form(
        "one_message",
        "One message a row",
        "`role`, `content` or `text`",
        "Each row is one message. Join those of one conversation in a list `messages`.",
        {"role from sender": is_prose, "content text value": is_any},
    ),
    Form(
        "chatgpt_export",
        "An export of ChatGPT",
        "`mapping`",
        "Each row is a tree of messages with all that was tried again. Write the conversations to keep as `messages`.",
        {"mapping": is_object},
    ),
    Form(
        "moss",
        "MOSS",
        "`chat`: an object of `turn_1`, `turn_2`…",
        "Each turn has thoughts, commands and answers in texts of their own. Write them as `messages`.",
        {"chat": is_moss},
    ),
    Form(
        "batch",
        "Requests of a batch",
        "`custom_id`, `body` or `response`",
        "They are requests to a service, or its answers, each without the other. Write both as `messages`.",
        {"custom_id": is_any, "body response": is_any},
    ),
    Form(
        "segments",
        "Texts in parts (input_output)",
        "`segments`: `label`, `text`",
        "The texts have a model's template in them already, and no roles. Write them as `messages`, "
        "with a `weight` of 0 for what is not learned.",
        {"segments": is_list},
    ),
    Form(
        "translation",
        "Translations",
        "`translation`: an object of languages",
        "None of the languages is the question. Keep the two to train on in columns of their own.",
        {"translation": is_object},
    ),
    Form(
        "search",
        "Pairs for search",
        "`anchor` or `query`, `positive` or `pos`",
        "They teach a model to search, not to answer.",
        {"anchor query": is_any, "positive pos positives": is_any},
    ),
    Form(
        "unanswerable",
        "Questions without an answer",
        "`article`, `unanswerable_question`",
        "The rows hold no answer. Write one beside each question.",
        {"unanswerable_question": is_any},
    ),
    Form(
        "critique",
        "Critiques and revisions",
        "`scores`, `critiques`, `instruction`, `answer`, `revision`",
        "Each row has an answer to criticise, not to imitate. You can train on the revisions, where there are any.",
        {"critiques": is_any, "instruction": is_any},
        offer={"user": "instruction", "assistant": "revision"},
        offer_words="Train on the revisions",
    ),
    Form(
        "reflection",
        "Reflections",
        "`instruction`, `input`, `output`, `reflection`, `corrected`",
        "Each row has a first answer, what is wrong with it, and a corrected one. You can train on the corrected ones.",
        {"reflection": is_any, "corrected": is_any, "instruction": is_any},
        offer={"user": "instruction", "context": "input", "assistant": "corrected"},
        offer_words="Train on the corrected answers",
    ),
)
